"""`genseg view`: shows a batch's results in the browser, on this machine only.

genseg view results                             reads the images that the batch's manifest names
genseg view results --manifest moved/rows.jsonl
"""

from __future__ import annotations

import argparse
import errno
import json
import socket
from collections.abc import Sequence
from pathlib import Path

from serve_app.batch.exports.laid_out import LaidOutResults
from serve_app.batch.exports.reading import Results, open_results
from serve_app.batch.manifest import read_rows
from serve_app.cli.console import Progress
from serve_app.cli.export_pictures import FilePictures
from serve_app.cli.options import MAX_PORT, CommandError
from serve_app.config.schema import AppConfig
from serve_app.errors import FetchFailed
from serve_app.schemas.events import Role
from serve_app.serving.http.view_app import HOSTS, view_app

DEFAULT_PORT = 8010


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("results", metavar="RESULTS", help="Output folder of genseg batch.")
    parser.add_argument("--manifest", metavar="FILE", help="The batch's manifest, if it was moved.")
    parser.add_argument(
        "--port", type=int, default=DEFAULT_PORT, metavar="PORT", help="Port on 127.0.0.1; 0 means any free port."
    )
    parser.add_argument("--quiet", action="store_true", help="Print only the page's address.")


def run(args: argparse.Namespace) -> int:
    """Show the results until Ctrl-C.

    Raises:
        GensegError, CommandError: with one line for the user.
    """
    import uvicorn

    if not 0 <= args.port <= MAX_PORT:
        raise CommandError(f"--port {args.port}: must be between 0 and {MAX_PORT}", usage=True)
    folder = Path(args.results)
    if not folder.is_dir():
        raise CommandError(f"{folder}: is not an output folder of genseg batch")
    progress = Progress(args.quiet)
    with _listening(args.port) as sock:
        viewed = FolderView(open_results(folder, Path(args.manifest) if args.manifest else None))
        for note in viewed.notes:
            progress.say(f"{note}; pictures are not shown")
        print(f"{folder}: http://{HOSTS[0]}:{sock.getsockname()[1]}/ (Ctrl-C stops)", flush=True)
        config = uvicorn.Config(view_app(viewed), lifespan="off", log_level="error", access_log=False)
        try:
            uvicorn.Server(config).run(sockets=[sock])
        except KeyboardInterrupt:
            pass
        finally:
            viewed.close()
    return 0


class FolderView:
    """The results of an output folder, for `view_app`.

    Args:
        results: the folder's results.

    Attributes:
        notes: reasons why pictures are not shown, one sentence for each.
    """

    def __init__(self, results: Results) -> None:
        self.notes: Sequence[str] = results.notes
        self._name = results.name
        self._laid_out = LaidOutResults(results)
        self._pictures = FilePictures(results.folder, AppConfig().limits)
        # The results may come from anyone, so only files that the manifest names are read.
        self._sources = {
            source for path in results.files for placed in read_rows(path) for source in placed.row.sources
        }

    def listing(self) -> bytes:
        """Return the list of rows as JSON; see `view_app.Viewed`."""
        listed = {"name": self._name, "notes": self.notes, "rows": self._laid_out.rows}
        return json.dumps(listed, ensure_ascii=False).encode("utf-8", "backslashreplace")

    def document(self, place: int) -> bytes:
        """Read a row's document.

        Raises:
            OutputError: the row has no document.
        """
        return self._laid_out.document(place)

    def picture(self, place: int, role: Role, index: int) -> bytes:
        """Read a picture's file.

        Raises:
            GensegError: the manifest does not name the picture, or it cannot be read.
        """
        picture = self._laid_out.picture(place, role, index)
        if picture.source not in self._sources:
            if self._sources:
                raise FetchFailed(f"the manifest does not name {picture.name}")
            raise FetchFailed(f"the manifest is not known, so {picture.name} is not read")
        return self._pictures.original(picture)

    def close(self) -> None:
        """Close the connections and the file of the documents."""
        self._pictures.close()
        self._laid_out.close()


def _listening(port: int) -> socket.socket:
    try:
        return socket.create_server((HOSTS[0], port))
    except OSError as error:
        reason = "is in use; choose another" if error.errno == errno.EADDRINUSE else f"cannot be used: {error.strerror}"
        raise CommandError(f"--port {port}: {reason}") from None
