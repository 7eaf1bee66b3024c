//! The whole of data-diet from outside: recorder, command line, and what survives a crash.
