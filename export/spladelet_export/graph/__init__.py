"""Rewriting graphs: operators fused, attention spelled out, the pooling put in, stored compactly.

Needs onnx and numpy; `operator_fusion` needs onnxruntime, too. Knows nothing of torch.
"""
