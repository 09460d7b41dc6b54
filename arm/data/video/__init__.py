"""Videos as interleaved documents: frames at a stated rate with their captions; hostile files cost one child process."""
