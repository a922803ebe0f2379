"""Where are the limits? Datasets, suites, intervals, comparisons and the scorecard of a release."""
