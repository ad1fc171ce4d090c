"""What only a GPU can show; see __main__. Imports neither Ray nor FastAPI nor pycocotools; pydantic may be missing."""

from importlib.util import find_spec

from tests.gpu import without_pydantic

if find_spec("pydantic") is None:
    without_pydantic.install()
