"""What compiled code may use of a processor."""

NATIVE = "native"  # all that the processor here has
MIXED = "x86-64-v3"  # AVX2 and its time: what every x86 machine of SageMaker has
