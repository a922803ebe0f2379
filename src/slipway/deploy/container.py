"""The container of an application: Containerfile and what stays out of it."""

from collections.abc import Iterator

from slipway.deploy.deployment import Deployment, Files
from slipway.deploy.shape import Problem
from slipway.domain.errors import did_you_mean

CONTAINERFILE = """\
# Image of {application}. Build it in the application's folder:
#   docker build -f {place}Containerfile -t {image} .
FROM docker.io/library/python:3.12-slim
RUN useradd --uid 10001 --create-home slipway
RUN pip install --no-cache-dir "slipway[{extras}]"
WORKDIR /app
COPY --chown=slipway:slipway . /app
RUN mkdir -p /app/.slipway && chown slipway:slipway /app/.slipway
USER 10001
ENV SLIPWAY_DIR=/app SLIPWAY_SERVER__HOST=0.0.0.0 SLIPWAY_SERVER__PORT={port}
EXPOSE {port}
HEALTHCHECK --interval=15s --timeout=3s --start-period=60s \\
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:{port}/healthz', timeout=2)"]
CMD ["slipway", "up"]
"""
IGNORE = """\
# Keys, the store and what was emitted stay out of the image.
.slipway
.env
*.env
.git
deploy
"""
INSTRUCTIONS = {
    "FROM", "RUN", "CMD", "LABEL", "EXPOSE", "ENV", "ADD", "COPY", "ENTRYPOINT", "VOLUME", "USER", "WORKDIR", "ARG",
    "STOPSIGNAL", "HEALTHCHECK", "SHELL",
}  # fmt: skip


def container_files(deployment: Deployment) -> Files:
    """Containerfile, and what stays out of the image (the name is BuildKit's)."""
    extras = "local,postgres" if deployment.database == "postgres" else "local"
    return {
        "Containerfile": CONTAINERFILE.format(
            application=deployment.application,
            image=deployment.image,
            port=deployment.port,
            extras=extras,
            place="deploy/",
        ),
        "Containerfile.dockerignore": IGNORE,
    }


def check_containerfile(file: str, text: str) -> Iterator[Problem]:
    """Unknown instructions, a missing base, and a container that would run as root."""
    names = []
    continued = False
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not continued and line and not line.startswith("#"):
            name = line.split()[0]
            names.append(name)
            if name not in INSTRUCTIONS:
                reason = f"unknown instruction '{name}'.{did_you_mean(name, INSTRUCTIONS)}"
                yield Problem(file=file, place=f"line {number}", reason=reason)
        continued = line.endswith("\\")
    if "FROM" not in names:
        yield Problem(file=file, place="", reason="names no base image (FROM)")
    if "USER" not in names:
        yield Problem(file=file, place="", reason="would run as root (no USER)")
