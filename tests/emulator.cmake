# The CUDA emulator and the test that it finds what it is there to find.
include(emulator/emulator.cmake)
rodeo_emulated_library(emulator_tests
  SOURCES emulator/test/kernels.cu emulator/test/memory.cu emulator/test/streams.cu
          emulator/test/halves.cpp emulator/test/products.cpp)
add_executable(test_emulator test_emulator.cpp)
target_link_libraries(test_emulator PRIVATE emulator_tests)
set_target_properties(test_emulator PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
add_test(NAME test_emulator COMMAND test_emulator)
set_tests_properties(test_emulator PROPERTIES TIMEOUT 300)
