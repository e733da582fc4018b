"""Other people's models: one cascade of one stage each, all at once on one agent.

`SLUICE_TEST_MODELS=FOLDER` runs it on the `.tflite` files of a folder instead of on the test's own.
"""

import http.client
import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from controller.samples import random_inputs
from protocols.bundle import OIP_DATATYPE
from protocols.inference.runtime import open_model
from tests.end_to_end.stack import Stack, wait_for
from tests.models import classifier, random_layers

FOLDER = os.environ.get("SLUICE_TEST_MODELS")
DEVICE = "ada"
SAMPLES = 5


@pytest.fixture
def models(tmp_path: Path) -> list[Path]:
    """Model files: float and quantized ones, of several shapes, heads and class counts."""
    if FOLDER:
        return sorted(Path(FOLDER).glob("*.tflite"))
    folder = tmp_path / "models"
    folder.mkdir()
    made = {
        "float": classifier(random_layers(12, 7, 3)),
        "image": classifier(random_layers(48, 16, 5), sample_shape=(4, 4, 3)),
        "int8": classifier(random_layers(12, 7, 3), form="int8"),
        "uint8": classifier(random_layers(16, 9, 4), form="uint8", sample_shape=(4, 4, 1)),
        "logits": classifier(random_layers(6, 1000), head="logits"),
        "binary": classifier(random_layers(9, 4, 1), head="sigmoid"),
    }
    for name, content in made.items():
        (folder / f"{name}.tflite").write_bytes(content)
    return sorted(folder.glob("*.tflite"))


def ask(
    connection: http.client.HTTPConnection, cascade: str, values: NDArray[Any], *, binary: bool
) -> bytes:
    """Post one sample; return the bytes of the first output."""
    tensor: dict[str, Any] = {
        "name": "x",
        "datatype": OIP_DATATYPE[values.dtype.name],  # type: ignore[index]
        "shape": list(values.shape),
    }
    body: dict[str, Any] = {"inputs": [tensor]}
    headers = {}
    if binary:
        tensor["parameters"] = {"binary_data_size": values.nbytes}
        body["parameters"] = {"binary_data_output": True}
        head = json.dumps(body).encode()
        payload = head + values.tobytes()
        headers["Inference-Header-Content-Length"] = str(len(head))
    else:
        tensor["data"] = values.ravel().tolist()
        payload = json.dumps(body).encode()
    connection.request("POST", f"/v2/models/{cascade}/infer", payload, headers)
    response = connection.getresponse()
    content = response.read()
    assert response.status == 200, content
    if binary:
        return content[int(response.headers["Inference-Header-Content-Length"]) :]
    output = json.loads(content)["outputs"][0]
    dtypes = {name: dtype for dtype, name in OIP_DATATYPE.items()}
    return np.array(output["data"], dtypes[output["datatype"]]).tobytes()


def test_answers_equal_those_of_the_bare_interpreter(stack: Stack, models: list[Path]) -> None:
    stack.start_ctl("serve")
    stack.start_agent(DEVICE)
    names = {path: path.stem.replace("_", "-") for path in models}
    for path, name in names.items():
        stack.ctl("cascade", "build", name, "--stage", f"only={path}")
        stack.ctl("deploy", name, "--detach")
    for name in names.values():
        wait_for(f"{name} running", partial(stack.observer.running, DEVICE, name, 1), 60)
    connection = http.client.HTTPConnection(*stack.endpoint(DEVICE), timeout=30)
    for path, name in names.items():
        model = open_model(path)
        for seed in range(SAMPLES):
            (sample,) = random_inputs(model.inputs, seed)
            expected = model.run([sample])[0].tobytes()
            assert ask(connection, name, sample, binary=False) == expected, path.name
            assert ask(connection, name, sample, binary=True) == expected, path.name
        model.close()
    connection.close()
