"""What each quantizer costs in mAP: exact scans by replay, adaptive scans, proxies, and the study that keeps them."""
