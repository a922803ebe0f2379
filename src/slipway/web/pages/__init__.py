"""One file a screen; their routes in the order of the menu."""

from starlette.routing import BaseRoute

from slipway.web.pages import (
    audit,
    decide,
    deploy,
    evaluate,
    guard,
    jobs,
    learn,
    live,
    overview,
    privacy,
    prompt,
    release,
    retrieve,
    review,
    search,
    settings,
    trace,
    traces,
    train,
    watch,
)

ROUTES: list[BaseRoute] = [
    *overview.ROUTES,
    *decide.ROUTES,
    *prompt.ROUTES,
    *train.ROUTES,
    *retrieve.ROUTES,
    *guard.ROUTES,
    *evaluate.ROUTES,
    *review.ROUTES,
    *release.ROUTES,
    *deploy.ROUTES,
    *watch.ROUTES,
    *live.ROUTES,
    *traces.ROUTES,
    *trace.ROUTES,
    *learn.ROUTES,
    *privacy.ROUTES,
    *audit.ROUTES,
    *settings.ROUTES,
    *search.ROUTES,
    *jobs.ROUTES,
]
