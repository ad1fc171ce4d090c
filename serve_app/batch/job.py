"""Runs a batch: several rows at a time. Each result is written as soon as its row is done.

Memory holds the images and results of the rows in progress, within a budget, and the id of every row. Knows no Ray.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from serve_app.batch.budget import ByteBudget
from serve_app.batch.output import OutputError, OutputFolder
from serve_app.batch.patience import Segment, ServiceLost
from serve_app.batch.plan import Plan
from serve_app.batch.progress import Meter, Reporter
from serve_app.batch.row import Row
from serve_app.batch.sources import SourceReader
from serve_app.errors import GensegError, InternalError
from serve_app.schemas.dicts import ErrorDict, ResultDict, error_body, images_of
from serve_app.schemas.phrase_key import phrase_key
from serve_app.schemas.requests import OptionArguments, SegmentRequest

LONGEST_TIMEOUT_S = 86400.0
"""Timeout of a row that has no `timeout_s` of its own. The service shortens it to its own maximum. It is long because
no user waits for a single row."""

MAX_READERS = 32
MAX_IMAGE_BYTES = 512 * 1024 * 1024
"""Total size of the image files in memory at the same time. A row whose images are larger runs alone."""


class Job:
    """Segments the rows of a plan.

    Args:
        output: stores the results.
        reader: reads the images.
        segment: segments one row; see patience.Segment.
        defaults: options of the request for rows that do not have them.
        meter: counts the rows.
        reporter: shows the progress and each failure.
    """

    def __init__(
        self,
        output: OutputFolder,
        reader: SourceReader,
        segment: Segment,
        defaults: OptionArguments,
        meter: Meter,
        reporter: Reporter,
    ) -> None:
        self._output = output
        self._reader = reader
        self._segment = segment
        self._defaults: OptionArguments = {"timeout_s": LONGEST_TIMEOUT_S, **defaults}
        self._meter = meter
        self._reporter = reporter
        self._budget = ByteBudget(MAX_IMAGE_BYTES)

    async def run(self, plan: Plan, concurrency: int) -> None:
        """Segment every row that has no result yet.

        Args:
            plan: the plan that was made with the same output folder.
            concurrency: number of rows in progress at the same time.

        Raises:
            ServiceLost, OutputError: the run cannot continue.
            asyncio.CancelledError: the run was stopped. Rows in progress are dropped; finished rows are kept.
        """
        rows = plan.pending(self._output)
        count = max(1, min(concurrency, plan.left))
        threads = ThreadPoolExecutor(min(count, MAX_READERS), "images")
        try:
            async with self._reporter.following(self._meter):
                try:
                    async with asyncio.TaskGroup() as workers:
                        for _ in range(count):
                            workers.create_task(self._work(rows, threads))
                except ExceptionGroup as failed:  # the first error ends the run
                    raise failed.exceptions[0] from None
                finally:
                    self._meter.stop()
        finally:
            # Without waiting, because a stopped run must not hang on a store that does not answer.
            threads.shutdown(wait=False, cancel_futures=True)

    async def _work(self, rows: Iterator[Row], threads: ThreadPoolExecutor) -> None:
        for row in rows:  # workers share the iterator; all of them run in the event loop's one thread
            try:
                document = await self._do(row, threads)
            except (ServiceLost, OutputError):
                raise
            except GensegError as error:
                self._fail(row, error_body(error))
                continue
            failure = failed_image(document)
            if failure is not None:
                self._fail(row, failure)
                continue
            self._output.add(row, document)
            self._meter.count(len(row.sources), failed=False)

    async def _do(self, row: Row, threads: ThreadPoolExecutor) -> ResultDict:
        loop = asyncio.get_running_loop()
        async with self._budget.piece() as known:
            try:
                request = await loop.run_in_executor(threads, self._reader.request, row)
                known(_image_bytes(request))
                named = {name for name, value in request.given().items() if value is not None}
                missing = {name: value for name, value in self._defaults.items() if name not in named}
                unused = unused_thresholds(request)
                if unused:
                    missing["thresholds"] = {n: value for n, value in request.thresholds.items() if n not in unused}
                document = await self._segment(request.model_copy(update=missing))
                if unused:  # the service did not get these thresholds, so it does not list them
                    document["meta"]["unused_thresholds"] = unused
                return document
            except GensegError:
                raise
            except Exception as error:
                raise InternalError(f"unexpected {type(error).__name__}") from error

    def _fail(self, row: Row, error: ErrorDict) -> None:
        self._output.fail(row, error)
        self._meter.count(len(row.sources), failed=True)
        self._reporter.failure(f"row {row.key!r}: {error['code']}: {error['message']}")


def run_job(job: Job, plan: Plan, concurrency: int) -> bool:
    """Process the rows of a plan until all are done, or until Ctrl-C or a termination signal.

    Args:
        job: processes the rows.
        plan: the plan that was made with the job's output folder.
        concurrency: number of rows in progress at the same time.

    Returns:
        True if all rows are done, False if the run was stopped.

    Raises:
        ServiceLost, OutputError: the run cannot continue.
    """
    return asyncio.run(_until_stopped(job.run(plan, concurrency)))


async def _until_stopped(work: Awaitable[None]) -> bool:
    task = asyncio.ensure_future(work)
    stopped = asyncio.Event()

    def stop() -> None:
        stopped.set()
        task.cancel()

    with _on_signals(stop):
        try:
            await task
        except asyncio.CancelledError:
            if not stopped.is_set():
                raise
    return not stopped.is_set()


@contextmanager
def _on_signals(stop: Any) -> Iterator[None]:
    """Call `stop` in the event loop on SIGINT and SIGTERM. Unlike KeyboardInterrupt, this cannot interrupt a write."""
    loop = asyncio.get_running_loop()
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in previous:
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number, handler in previous.items():
            loop.remove_signal_handler(number)
            if handler is not None:  # None means that it was not set from Python, so it cannot be restored
                signal.signal(number, handler)


def unused_thresholds(request: SegmentRequest) -> list[str]:
    """Return the names of a row's thresholds that are not among its own entities.

    The service refuses a request with such a threshold, because it is probably a mistake. In a manifest, many rows with
    different entities may share one set of thresholds. So the unused ones are listed in the row's result instead.
    """
    if request.entities is None:
        return []
    entities = {phrase_key(entity) for entity in request.entities}
    return [name for name in request.thresholds if phrase_key(name) not in entities]


def _image_bytes(request: SegmentRequest) -> int:
    sources = [*request.contextual_images, *filter(None, [request.generated_image])]
    return sum(len(source.data or b"") for source in sources)


def failed_image(document: ResultDict) -> ErrorDict | None:
    """Return the error of the first image that failed; None if no image failed.

    A row with a failed image counts as failed, so that it can be done again as a whole.
    """
    return next((image["error"] for image in images_of(document) if image["error"] is not None), None)
