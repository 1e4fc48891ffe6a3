"""Between a tool and its user: options, messages and exit status, files, standard streams, the progress line."""
