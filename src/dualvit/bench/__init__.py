"""What models cost: time, memory and multiply-adds, at each image size and in each precision."""
