"""What a user agent does inside and around a dialog, one machine a file, without I/O; see `output` for their verbs."""
