"""What a run writes into its folder as it goes."""
