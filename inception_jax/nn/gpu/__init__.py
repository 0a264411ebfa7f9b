"""Operations with hand-written gradients that move less memory on a GPU (docs/gpu.md)."""
