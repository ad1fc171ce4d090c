"""Starts a Ray with a dashboard, submits a command to it as `ray job submit` does, and prints how it ended.

python -m tests.batch.ray_job FOLDER COMMAND...
"""

from __future__ import annotations

import os
import shlex
import sys
import time

from tests.conftest import free_port


def main(folder: str, command: list[str]) -> int:
    """Run the command as a Ray job.

    Returns:
        0 if it succeeded.
    """
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_raylet_start_wait_time_s": "120"}
    import ray
    from ray.job_submission import JobStatus, JobSubmissionClient

    port = free_port()
    ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=True,
        dashboard_port=port,
        log_to_driver=False,
        _temp_dir=folder,
    )
    try:
        client = JobSubmissionClient(f"http://127.0.0.1:{port}")
        job = client.submit_job(entrypoint=shlex.join(command))
        while not client.get_job_status(job).is_terminal():
            time.sleep(0.5)
        print(client.get_job_logs(job))
        return 0 if client.get_job_status(job) is JobStatus.SUCCEEDED else 1
    finally:
        ray.shutdown()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
