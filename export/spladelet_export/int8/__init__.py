"""int8: a quarter of the size and more than twice the speed, the same vector in every batch.

Weights are int8 with a scale for each output; activations are uint8. A scale taken over a whole
batch, as in dynamic quantization, would make a text's vector depend on its neighbours. Here a scale
is either a constant, from calibration texts, or one for each token, from that token alone:

- smoothing (SmoothQuant, Xiao et al. 2022, https://arxiv.org/abs/2211.10438): channels with large
  activations are scaled down and their weights up, by the power that leaves the least error
  (`activation_plans`);
- each weight is rounded so that it makes up for what rounding those before it did to the products
  (GPTQ, Frantar et al. 2023, https://arxiv.org/abs/2210.17323), which costs nothing at run time
  (`rounding`);
- row-wise scales, which cost a pass over the activations, where they cut the error enough
  (the output of GELU, whose few large values make one scale for all too coarse);
- in the pooled head, the maximum over positions is taken on the int32 products, before they are
  scaled back; a decoder tied to the embeddings is stored once, in int8 (`quantization`).

Clipping an activation's range was measured as well: on top of smoothing it mostly gained nothing,
and took at most a tenth off the error of a product, so it is not done.

Needs onnx, onnxruntime and numpy only.
"""
