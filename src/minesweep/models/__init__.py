"""Models: one file each, named by ``_target_`` in a YAML file of the group ``model``.

The trainer builds a model as ``Model(**config, input_shape=..., num_classes=...)``. Any
``nn.Module`` that maps ``[n, *input_shape]`` to ``[n, num_classes]`` will do.
"""
