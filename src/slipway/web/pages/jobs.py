"""Work that runs beside the pages: what waits, runs, was done or failed."""

from slipway.jobs.queue import list_jobs
from slipway.web import work
from slipway.web.frame import Crumb
from slipway.web.number import moment
from slipway.web.page import Done, View, Visit, act, page


def show(visit: Visit) -> View:
    jobs = [
        {"job": job, "shown": work.show_job(job, visit.workspace), "at": moment(job.created_at)}
        for job in list_jobs(visit.workspace.store, limit=100)
    ]
    return View("jobs.html", "Jobs", {"jobs": jobs}, (Crumb("Jobs"),))


def stop(visit: Visit) -> Done:
    job = work.stop(visit.workspace, visit.part("id"))
    return Done(
        _came_from(visit), "The work is stopped." if job.state == "cancelled" else "The work stops at its next step."
    )


def resume(visit: Visit) -> Done:
    work.resume(visit.workspace, visit.part("id"))
    visit.request.app.state.worker.start()
    return Done("/jobs", "The work goes on where it stood.")


def _came_from(visit: Visit) -> str:
    """The page whose button was pressed, as far as it is one of ours."""
    url = visit.request.headers.get("referer", "")
    base = str(visit.request.base_url)
    return f"/{url.removeprefix(base)}" if url.startswith(base) else "/jobs"


ROUTES = [
    page("/jobs", show),
    act("/jobs/{id}/stop", stop, back=show, needs="run_evaluation"),
    act("/jobs/{id}/resume", resume, back=show, needs="run_evaluation"),
]
