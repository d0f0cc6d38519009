"""Who is next: queues, batches, leases, lanes, turns of the loop. Decides only; time is an argument."""
