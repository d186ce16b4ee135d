"""Who profiles rows: this process, or Spark; profiles of parts are summed, so the answer is the same."""
