# Tests of the CUDA backend on the emulator, in a build with RODEO_CUDA=EMULATED; the first one tests
# that the emulator finds what it is there to find. Label: emulated.
if(NOT RODEO_CUDA STREQUAL EMULATED)
  return()
endif()
rodeo_emulated_library(emulator_tests
  SOURCES emulator/test/kernels.cu emulator/test/memory.cu emulator/test/streams.cu
          emulator/test/races.cu emulator/test/matrices.cu
          emulator/test/halves.cpp emulator/test/products.cpp emulator/test/graphs.cpp
          emulator/test/convolutions.cpp emulator/test/heuristics.cpp
          emulator/test/cudnn_faults.cpp)
add_executable(test_emulator test_emulator.cpp)
target_link_libraries(test_emulator PRIVATE emulator_tests)
set_target_properties(test_emulator PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
add_test(NAME test_emulator COMMAND test_emulator)
set_tests_properties(test_emulator PROPERTIES TIMEOUT 300 LABELS emulated)

add_executable(test_hopper_geometry test_hopper_geometry.cpp)
target_include_directories(test_hopper_geometry PRIVATE ${PROJECT_SOURCE_DIR})
target_link_libraries(test_hopper_geometry PRIVATE cuda_emulator emulator_flags)
set_target_properties(test_hopper_geometry PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
add_test(NAME test_hopper_geometry COMMAND test_hopper_geometry)
set_tests_properties(test_hopper_geometry PROPERTIES TIMEOUT 300 LABELS emulated)

rodeo_test(test_conv_choice SOURCES test_conv_choice.c LINKS rodeo_kernels)
rodeo_test(test_cuda_memory SOURCES test_cuda_memory.c child.c LINKS rodeo_train)
rodeo_test(test_cuda_open SOURCES test_cuda_open.c child.c LINKS rodeo_kernels)
set_tests_properties(test_conv_choice test_cuda_memory test_cuda_open PROPERTIES LABELS emulated)

# Recording, saving and choosing do the same in every precision; fp16 has a loss scale besides.
foreach(case mechanics:fp16 numbers:fp32 numbers:tf32 numbers:fp16 numbers:bf16)
  string(REPLACE ":" ";" part_and_precision ${case})
  list(GET part_and_precision 0 part)
  list(GET part_and_precision 1 precision)
  add_test(NAME test_training_emulated_${part}_${precision} COMMAND test_training)
  set_tests_properties(test_training_emulated_${part}_${precision} PROPERTIES TIMEOUT 900 LABELS emulated
    ENVIRONMENT "RODEO_TEST_DEVICE=cuda;RODEO_TEST_PRECISION=${precision};RODEO_TEST_PART=${part}")
endforeach()

# On a GPU before Ampere, which has neither.
foreach(precision tf32 bf16)
  add_test(NAME test_training_emulated_without_${precision} COMMAND test_training)
  set_tests_properties(test_training_emulated_without_${precision} PROPERTIES TIMEOUT 60 LABELS emulated
    ENVIRONMENT "RODEO_TEST_DEVICE=cuda;RODEO_TEST_PRECISION=${precision};RODEO_EMULATOR_SM=7.5"
    PASS_REGULAR_EXPRESSION "^no ${precision} on this device\n$")
endforeach()

foreach(precision fp32 tf32 fp16 bf16)
  add_test(NAME test_backend_ops_emulated_${precision}
           COMMAND test_backend_ops --device cuda --precision ${precision} --rounds 2)
  set_tests_properties(test_backend_ops_emulated_${precision} PROPERTIES TIMEOUT 600 LABELS emulated)
endforeach()
# As many as an H100 has: sums are formed in more parts. With few a block has more to do.
set_property(TEST test_backend_ops_emulated_fp32 test_backend_ops_emulated_fp16
             APPEND PROPERTY ENVIRONMENT RODEO_EMULATOR_MULTIPROCESSORS=132)
# Kernels that were compiled for an older GPU than the one they run on.
foreach(case 7.0:fp16 7.5:bf16)
  string(REPLACE ":" ";" code_and_precision ${case})
  list(GET code_and_precision 0 code)
  list(GET code_and_precision 1 precision)
  add_test(NAME test_backend_ops_emulated_code_${code}
           COMMAND test_backend_ops --device cuda --precision ${precision} --rounds 1)
  set_tests_properties(test_backend_ops_emulated_code_${code} PROPERTIES TIMEOUT 600 LABELS emulated
                       ENVIRONMENT RODEO_EMULATOR_CODE=${code})
endforeach()
# The programs themselves; the same test that runs on a GPU where there is one.
add_test(NAME test_gpu_runs_emulated COMMAND ${Python3_EXECUTABLE}
         ${CMAKE_CURRENT_SOURCE_DIR}/test_gpu_runs.py ${CMAKE_BINARY_DIR})
set_tests_properties(test_gpu_runs_emulated PROPERTIES TIMEOUT 900 LABELS emulated)
# The longest begin first, so that no core is left waiting for one in the end.
set_tests_properties(test_gpu_runs_emulated test_training_emulated_mechanics_fp16 PROPERTIES COST 100)
add_custom_target(emulated DEPENDS test_emulator test_hopper_geometry test_conv_choice test_cuda_memory test_cuda_open test_training test_backend_ops train evaluate demo_data)
