"""How finely a process computes (configs/compute.py): what cannot be had is refused, what was chosen told."""

from __future__ import annotations

import torch

from actors.policy.encoders import ImageEncoder
from actors.policy.policy import Policy
from configs.error import ConfigError, require
from configs.schema import ComputeConfig, Dtype

TOLD = {
    "off": "none are formed in TF32",
    "convolutions": "the encoder's convolutions in TF32, all others as float32",
    "all": "all in TF32, the core's and its traces' too",
}


def image_encoders(policy: Policy) -> list[ImageEncoder]:
    return [module for module in policy.modules() if isinstance(module, ImageEncoder)]


def set_encoder_dtype(policy: Policy, dtype: Dtype) -> None:
    """Of what computes on images; all else stays float32, what the core reads first of all."""
    for encoder in image_encoders(policy):
        encoder.dtype = torch.bfloat16 if dtype == "bfloat16" else None


def check_bfloat16(field: str, compute: ComputeConfig, device: torch.device | str) -> None:
    """Raises ConfigError where `compute.field` asks for bfloat16 of a CPU that would only emulate it."""
    dtype = getattr(compute, field)
    if dtype == "bfloat16" and torch.device(device).type == "cpu":
        capable = torch.cpu.get_capabilities().get("avx512_bf16", False)
        require(capable, f"compute.{field}", dtype, "this CPU has no AVX512-BF16; use 'float32', or a GPU")


def check_compute(compute: ComputeConfig, policy: Policy, device: torch.device, acting_device: str) -> None:
    """Raises ConfigError for settings that cannot take effect with this policy or on the learner's device.
    Actors look for themselves (`check_bfloat16`), since they may be on other machines."""
    images = bool(image_encoders(policy))
    for field in ("encoder_dtype", "actor_encoder_dtype"):
        dtype = getattr(compute, field)
        remedy = "there is no image among the observations for it to speed up; leave it at 'float32'"
        require(images or dtype == "float32", f"compute.{field}", dtype, remedy)
    check_bfloat16("encoder_dtype", compute, device)
    on_gpu = device.type == "cuda" or acting_device != "cpu"
    asked = compute.tf32 in ("convolutions", "all")
    require(on_gpu or not asked, "compute.tf32", compute.tf32, "a CPU has no TF32; leave it at 'auto'")
    check_compiler(compute, device)


def check_compiler(compute: ComputeConfig, device: torch.device) -> None:
    """Compiles something small. Raises ConfigError where `compute.compile_encoder` cannot be had."""
    if compute.compile_encoder:
        try:
            torch.compile(torch.relu)(torch.zeros(8, device=device))
        except RuntimeError as error:
            raise ConfigError(
                f"compute.compile_encoder = True: torch.compile does not work here ({error}); install a C++ "
                "compiler, or leave it off"
            ) from error


def set_tf32(compute: ComputeConfig, device: torch.device | str) -> str:
    """Sets it for this process's work on `device`, and says what was set.

    Recurrent layers of cuDNN, which torch lets use TF32, follow the matrix products: they are cores.
    """
    if torch.device(device).type == "cpu":
        return "float32 products: as float32, a CPU has no TF32"
    chosen = "convolutions" if compute.tf32 == "auto" else compute.tf32
    products = "tf32" if chosen == "all" else "ieee"
    torch.backends.cuda.matmul.fp32_precision = products
    cudnn = torch.backends.cudnn
    cudnn.rnn.fp32_precision = products  # pyright: ignore[reportAttributeAccessIssue]
    convolutions = "ieee" if chosen == "off" else "tf32"
    cudnn.conv.fp32_precision = convolutions  # pyright: ignore[reportAttributeAccessIssue]
    return f"float32 products: {TOLD[chosen]} (compute.tf32 = {compute.tf32!r})"


def told(compute: ComputeConfig, device: torch.device) -> str:
    """`set_tf32`, with the encoders' dtypes where they are not float32: one line for the start of a run."""
    dtypes = {"the learner": compute.encoder_dtype, "the actors": compute.actor_encoder_dtype}
    who = " and ".join(name for name, dtype in dtypes.items() if dtype == "bfloat16")
    text = set_tf32(compute, device)
    return f"{text}; image encoders of {who} in bfloat16" if who else text
