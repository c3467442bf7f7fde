"""Export of a bundle as a model repository of NVIDIA Triton Inference Server.

Triton's Python backend runs `caflow_deploy.serving.triton`, so `caflow-deploy` must be installed where the server runs.
The layout of the repository: https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/model_repository.html
"""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from caflow_deploy.serving.request import TensorSpec
from caflow_deploy.serving.served_models import SERVICES
from caflow_deploy.serving.service import MAX_REQUEST_PIXELS, Service
from caflow_runtime.bundle.reading import read_manifest
from caflow_runtime.errors import InputError
from caflow_runtime.file_io.atomic_files import remove
from caflow_runtime.file_io.paths import real_path

VERSION, CONFIG_NAME = "1", "config.pbtxt"
MODEL = '''"""The model class that Triton loads."""

from caflow_deploy.serving.triton import TritonPythonModel  # noqa: F401 - Triton looks for this name
'''
CONFIG = """\
# Written by caflow-export. Settings with a comment may be changed.
name: "{name}"
backend: "python"
max_batch_size: 16  # most images in one request, and in requests that are computed together
input [
{inputs}
]
output [
{outputs}
]
dynamic_batching {{
  max_queue_delay_microseconds: 5000  # longest time that a request waits for others
  default_queue_policy {{
    max_queue_size: 128  # further requests are rejected
    default_timeout_microseconds: 60000000  # requests that wait longer are rejected; a request may set a shorter time
    allow_timeout_override: true
    timeout_action: REJECT
  }}
}}
# instance_group [ {{ count: 2 kind: KIND_CPU }} ]  # the default is one instance per GPU, or one on the CPU
parameters {{ key: "bundle" value {{ string_value: "{bundle}" }} }}
parameters {{ key: "backend" value {{ string_value: "auto" }} }}  # or cpu, cuda
parameters {{ key: "threads" value {{ string_value: "0" }} }}  # CPU threads per instance; 0 is one per core
parameters {{ key: "max_pixels" value {{ string_value: "{max_pixels}" }} }}  # result pixels per request, of all samples
# Virtual environment with caflow-deploy, if caflow-deploy is not installed in the server's own Python:
# parameters {{ key: "EXECUTION_ENV_PATH" value {{ string_value: "/opt/caflow" }} }}
"""


def write_repository(bundle: Path, repository: Path, force: bool) -> list[Path]:
    """Write a model repository with two models, one for sampling and one for scoring. Both use one copy of the bundle.

    Arguments:
        force: replace existing models with the same names.

    Returns:
        The models' folders.

    Raises:
        InputError: if a model exists and `force` is False, or if an existing folder must not be replaced.
        OSError: if a file cannot be read or written.
    """
    bundle = real_path(bundle)  # Path(".") has no name
    folders = [repository / (bundle.stem + kind.suffix) for kind in SERVICES]
    for folder in folders:
        _check_replaceable(folder, bundle, force)
    channels = read_manifest(bundle).model.condition_channels
    repository.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".caflow-", dir=repository) as temporary:
        partial = Path(temporary)
        copy = Path(folders[0].name, VERSION, bundle.name)
        for kind, folder in zip(SERVICES, folders, strict=True):
            (partial / folder.name / VERSION).mkdir(parents=True)
            (partial / folder.name / VERSION / "model.py").write_text(MODEL)
            (partial / folder.name / CONFIG_NAME).write_text(config(kind, folder.name, copy.as_posix(), channels))
        shutil.copytree(bundle, partial / copy)
        for folder in folders:
            if folder.exists():
                remove(folder)
            (partial / folder.name).rename(folder)
    return folders


def _check_replaceable(folder: Path, bundle: Path, force: bool) -> None:
    if not folder.exists():
        return
    if not force:
        raise InputError(f"{folder} already exists: give --force to replace it, or another folder with --triton")
    if not (folder / CONFIG_NAME).is_file():
        raise InputError(
            f"{folder} is not a Triton model, so --force does not replace it: give another folder with --triton"
        )
    if bundle.is_relative_to(real_path(folder)):
        raise InputError(f"{bundle} is inside {folder}, which would be replaced: give another folder with --triton")


def config(kind: type[Service], name: str, bundle: str, condition_channels: int) -> str:
    """Return the text of a model's `config.pbtxt`. `bundle` is the path of the bundle inside the repository."""
    inputs = ",\n".join(_tensor(spec, " allow_ragged_batch: true") for spec in kind.inputs_of(condition_channels))
    outputs = ",\n".join(_tensor(spec) for spec in kind.outputs)
    return CONFIG.format(name=name, inputs=inputs, outputs=outputs, bundle=bundle, max_pixels=MAX_REQUEST_PIXELS)


def _tensor(spec: TensorSpec, more: str = "") -> str:
    """Return the entry of a tensor, without the tensor's first axis, which is the batch."""
    kind = "STRING" if spec.datatype == "BYTES" else spec.datatype
    return f'  {{ name: "{spec.name}" data_type: TYPE_{kind} dims: {list(spec.shape[1:])}{more} }}'
