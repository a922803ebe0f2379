"""One file a screen; their routes in the order of the menu."""

from starlette.routing import BaseRoute

from slipway.web.pages import (
    audit,
    decide,
    evaluate,
    jobs,
    learn,
    overview,
    release,
    review,
    search,
    settings,
    traces,
    watch,
)

ROUTES: list[BaseRoute] = [
    *overview.ROUTES,
    *decide.ROUTES,
    *evaluate.ROUTES,
    *review.ROUTES,
    *release.ROUTES,
    *watch.ROUTES,
    *traces.ROUTES,
    *learn.ROUTES,
    *audit.ROUTES,
    *settings.ROUTES,
    *search.ROUTES,
    *jobs.ROUTES,
]
