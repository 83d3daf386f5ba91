"""From a configuration to replies: pipeline, batches, single replies, Ray clusters."""
