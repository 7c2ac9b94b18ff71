"""What a pruned model lost: accuracy, with the tools that the field trusts."""
