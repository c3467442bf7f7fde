"""A bundle as a model repository of NVIDIA Triton Inference Server.

Its Python backend runs `caflow_deploy.serving.triton` around the runtime, so `caflow-deploy` must be installed where
the server runs. https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/model_repository.html
"""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from caflow_runtime.errors import InputError
from caflow_runtime.service.request import TensorSpec
from caflow_runtime.service.service import MAX_PIXELS, SERVICES, Service

VERSION, CONFIG_NAME = "1", "config.pbtxt"
MODEL = '''"""What Triton loads."""

from caflow_deploy.serving.triton import TritonPythonModel  # noqa: F401 - Triton looks for that name
'''
CONFIG = """\
# Written by caflow-export; what may be changed here has a comment.
name: "{name}"
backend: "python"
max_batch_size: 16  # images of a request, and of requests that are computed together
input [
{inputs}
]
output [
{outputs}
]
dynamic_batching {{
  max_queue_delay_microseconds: 5000  # that a request waits for others
  default_queue_policy {{
    max_queue_size: 128  # more requests are refused
    default_timeout_microseconds: 60000000  # later ones are refused; a request may say that it waits for less
    allow_timeout_override: true
    timeout_action: REJECT
  }}
}}
# instance_group [ {{ count: 2 kind: KIND_CPU }} ]  # one on each GPU, or on the CPU, is the default
parameters {{ key: "bundle" value {{ string_value: "{bundle}" }} }}
parameters {{ key: "backend" value {{ string_value: "auto" }} }}  # or cpu, cuda
parameters {{ key: "threads" value {{ string_value: "0" }} }}  # of an instance, on the CPU; 0 is one per core
parameters {{ key: "max_pixels" value {{ string_value: "{max_pixels}" }} }}  # of a request's results, with all samples
# Where caflow-deploy is installed, if that is not the server's own Python: a virtual environment.
# parameters {{ key: "EXECUTION_ENV_PATH" value {{ string_value: "/opt/caflow" }} }}
"""


def write_repository(bundle: Path, repository: Path, force: bool) -> list[Path]:
    """Two models, one that samples and one that judges, with one copy of the bundle.

    Arguments:
        force: replace models of these names.

    Returns:
        The models' folders.

    Raises:
        InputError: if one is there already, or something else that is not to be replaced.
        OSError
    """
    bundle = bundle.resolve()  # "." has no name
    folders = [repository / (bundle.stem + kind.suffix) for kind in SERVICES]
    for folder in folders:
        _check_replaceable(folder, bundle, force)
    repository.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".caflow-", dir=repository) as temporary:
        partial = Path(temporary)
        copy = Path(folders[0].name, VERSION, bundle.name)
        for kind, folder in zip(SERVICES, folders, strict=True):
            (partial / folder.name / VERSION).mkdir(parents=True)
            (partial / folder.name / VERSION / "model.py").write_text(MODEL)
            (partial / folder.name / CONFIG_NAME).write_text(config(kind, folder.name, copy.as_posix()))
        shutil.copytree(bundle, partial / copy)
        for folder in folders:
            if folder.exists():
                shutil.rmtree(folder)
            (partial / folder.name).rename(folder)
    return folders


def _check_replaceable(folder: Path, bundle: Path, force: bool) -> None:
    if not folder.exists():
        return
    if not force:
        raise InputError(f"{folder} is there already: give --force to replace it, or another --triton")
    if not (folder / CONFIG_NAME).is_file():
        raise InputError(f"{folder} is no model of Triton, so it is not replaced: give another --triton")
    if bundle.is_relative_to(folder.resolve()):
        raise InputError(f"{bundle} is in {folder}, which would be replaced: give another --triton")


def config(kind: type[Service], name: str, bundle: str) -> str:
    """`config.pbtxt` of a model; `bundle` is relative to the repository."""
    inputs = ",\n".join(_tensor(spec, " allow_ragged_batch: true") for spec in kind.inputs)
    outputs = ",\n".join(_tensor(spec) for spec in kind.outputs)
    return CONFIG.format(name=name, inputs=inputs, outputs=outputs, bundle=bundle, max_pixels=MAX_PIXELS)


def _tensor(spec: TensorSpec, more: str = "") -> str:
    """Without its first axis, which is the batch."""
    kind = "STRING" if spec.datatype == "BYTES" else spec.datatype
    return f'  {{ name: "{spec.name}" data_type: TYPE_{kind} dims: {list(spec.shape[1:])}{more} }}'
