"""Stand-in, ours: transformers' source distribution lacks this module of its tests."""

# Arguments for configurations of one model. The common tests leave them out for one with sub-configurations like ours.
config_common_kwargs: dict = {}
