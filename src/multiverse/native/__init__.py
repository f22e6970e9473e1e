"""Native programs: linked with the AeroKernel alone, on a machine of their own."""
