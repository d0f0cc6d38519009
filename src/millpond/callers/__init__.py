"""The two kinds of callers that an engine serves: tasks of an event loop, and threads."""
