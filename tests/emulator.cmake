# The CUDA emulator and the test that it finds what it is there to find.
include(emulator/emulator.cmake)
