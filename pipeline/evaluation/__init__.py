"""What a model is judged by: the task it is trained for, pictures, tables, and what it costs."""
