"""The runner processes: started, exchanged, heard, restarted, and blamed when they die."""
