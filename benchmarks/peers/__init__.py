"""The systems that are measured, one file each, with the settings that their own documents recommend."""
