"""From columns of unchecked values to `RawData`: conversion, quarantine, duplicates."""
