"""How likely is it that a flight out of New York arrives more than 15 minutes late, two hours before it leaves?"""
