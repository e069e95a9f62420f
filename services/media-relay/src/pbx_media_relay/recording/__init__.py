"""Recording beside the data path: taps copy packets to a worker process, which decodes and writes stereo WAV
files.

The call never waits for it: what the worker cannot take is dropped from the recording, not from the call.
"""
