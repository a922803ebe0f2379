"""The open workspace with the settings that slipway.toml holds now, as a command would read them."""

import threading
from dataclasses import replace

from slipway.config.reader import FILE_NAME, load_settings
from slipway.domain.errors import SlipwayError
from slipway.workspace import Workspace


class Current:
    """Reads slipway.toml again when it changed. A file that is broken is named, and the last good one stays."""

    def __init__(self, workspace: Workspace) -> None:
        self._lock = threading.Lock()
        self._workspace = workspace
        self._seen = self._stamp()
        self.problem = ""

    @property
    def workspace(self) -> Workspace:
        stamp = self._stamp()
        if stamp != self._seen:
            with self._lock:
                self._seen = stamp
                try:
                    settings = load_settings(self._workspace.folder)
                    self._workspace, self.problem = replace(self._workspace, settings=settings), ""
                except SlipwayError as wrong:
                    self.problem = str(wrong)
        return self._workspace

    def _stamp(self) -> tuple[int, int]:
        try:
            found = (self._workspace.folder / FILE_NAME).stat()
        except OSError:
            return 0, 0
        return found.st_mtime_ns, found.st_size
