def reason_for(difference):
    return None
