"""What people see: the console, TensorBoard, drawn pictures."""
