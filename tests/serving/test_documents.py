import json

import numpy as np
import pytest

from serve_app.models.interface import Detections
from tests.image_document import image_document


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.7])
def test_a_score_above_its_threshold_is_above_it_when_written(threshold: float) -> None:
    score = np.nextafter(np.float32(threshold), np.float32(1))
    found = Detections(
        scores=np.array([score], dtype=np.float32),
        boxes=np.array([[0, 0, 1, 1]], dtype=np.float32),
        mask_logits=np.ones((1, 4, 4), dtype=np.float32),
        presence=float(score),
    )
    document = json.loads(json.dumps(image_document({"dog": found}, (8, 8))))
    (dog,) = document["objects"]
    assert dog["score"] > threshold
    assert document["presence"]["dog"] == dog["score"]
