"""The mAP that each quantizer costs: exact scans by replay, adaptive scans, proxies, and the study that keeps the results."""
