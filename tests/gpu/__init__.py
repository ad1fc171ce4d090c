"""What only a GPU can show; see __main__. Imports neither Ray nor FastAPI nor pycocotools, and does without pydantic."""

from importlib.util import find_spec

from tests.gpu import without_pydantic

if find_spec("pydantic") is None:
    without_pydantic.install()
