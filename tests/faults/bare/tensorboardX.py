raise ImportError("hidden: a machine without the extra `report`")
