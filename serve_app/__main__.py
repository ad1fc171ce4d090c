"""`python -m serve_app` is `genseg`."""

from __future__ import annotations

import sys

from serve_app.cli.main import main

sys.exit(main())
