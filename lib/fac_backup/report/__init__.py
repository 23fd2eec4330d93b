"""What people see: tables, the step summary, progress, the catalog page."""
