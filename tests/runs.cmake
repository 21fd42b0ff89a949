find_package(Python3 3.8 COMPONENTS Interpreter REQUIRED)
foreach(what runs programs)
  add_test(NAME test_${what}
           COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/test_${what}.py ${CMAKE_BINARY_DIR})
  set_tests_properties(test_${what} PROPERTIES TIMEOUT 900)
endforeach()
# PyTorch, torchvision and ONNX, where scripts/bootstrap has installed them.
add_test(NAME test_pytorch
         COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/with_reference.sh ${PROJECT_SOURCE_DIR}/.venv/bin/python
                 "torch, torchvision, safetensors, onnx, onnxruntime"
                 ${CMAKE_CURRENT_SOURCE_DIR}/test_pytorch.py ${CMAKE_BINARY_DIR})
set_tests_properties(test_pytorch PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 1500)
# PyTorch takes minutes to compute again what the optimised build's tests have compared.
if(RODEO_SANITIZE)
  set_property(TEST test_pytorch PROPERTY ENVIRONMENT RODEO_TEST_FORMATS_ALONE=1)
else()
  add_test(NAME check_initial
           COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/with_reference.sh ${PROJECT_SOURCE_DIR}/.venv/bin/python
                   "torchvision, safetensors" ${CMAKE_CURRENT_SOURCE_DIR}/check_initial.py
                   ${CMAKE_BINARY_DIR})
  set_tests_properties(check_initial PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 1500)
endif()
# The notebook calls the programs of the source tree's build/.
if(CMAKE_BINARY_DIR STREQUAL "${PROJECT_SOURCE_DIR}/build")
  add_test(NAME test_notebook
           COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/with_reference.sh ${PROJECT_SOURCE_DIR}/.venv/bin/python
                   IPython ${CMAKE_CURRENT_SOURCE_DIR}/test_notebook.py ${CMAKE_BINARY_DIR})
  set_tests_properties(test_notebook PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 900)
endif()
# Trains for minutes on all cores: only where the build is fast. It has the cores to itself, so threads may
# wait busily for each other, which takes a third less time.
if(NOT RODEO_SANITIZE)
  add_test(NAME test_adaptation COMMAND ${Python3_EXECUTABLE}
           ${CMAKE_CURRENT_SOURCE_DIR}/test_adaptation.py ${CMAKE_BINARY_DIR} --seeds 2)
  set_tests_properties(test_adaptation PROPERTIES TIMEOUT 1500 RUN_SERIAL ON
                                                       ENVIRONMENT OMP_WAIT_POLICY=active)
endif()

# Kills runs and resumes them. Under the sanitizers everything is slower, and fewer kills show as much.
set(kills 200)
set(fault_stride 1)
if(RODEO_SANITIZE)
  set(kills 40)
  set(fault_stride 6)
endif()
add_test(NAME test_kills COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/test_kills.py
                                 ${CMAKE_BINARY_DIR} --kills ${kills})
add_test(NAME test_kills_gpu COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/test_kills.py
                                     ${CMAKE_BINARY_DIR} --device cuda --kills 20)
add_test(NAME test_gpu_runs COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/test_gpu_runs.py
                                    ${CMAKE_BINARY_DIR})
set_tests_properties(test_kills test_kills_gpu test_gpu_runs PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 900)
set_tests_properties(test_kills_gpu test_gpu_runs PROPERTIES LABELS gpu)
add_test(NAME test_tar_runs
         COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/test_tar_runs.py
                 ${CMAKE_BINARY_DIR})
set_tests_properties(test_tar_runs PROPERTIES TIMEOUT 600)
add_test(NAME kill_while_packing
         COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/kill_while_packing.py
                 ${CMAKE_BINARY_DIR})
set_tests_properties(kill_while_packing PROPERTIES TIMEOUT 300)

# Lets calls to the file system fail, through a library that stands in front of the C library.
add_library(fault SHARED fault/fault.c)
target_compile_options(fault PRIVATE -fno-sanitize=all)
target_compile_definitions(fault PRIVATE _GNU_SOURCE)
set_target_properties(fault PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
target_link_libraries(fault PRIVATE ${CMAKE_DL_LIBS})
add_test(NAME test_faults COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/test_faults.py
                                  ${CMAKE_BINARY_DIR} --stride ${fault_stride})
set_tests_properties(test_faults PROPERTIES TIMEOUT 900)
add_test(NAME test_reliability COMMAND ${Python3_EXECUTABLE}
                                       ${CMAKE_CURRENT_SOURCE_DIR}/test_reliability.py ${CMAKE_BINARY_DIR})
set_tests_properties(test_reliability PROPERTIES TIMEOUT 600)
add_test(NAME test_unpacked COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/test_unpacked.py
                                    ${PROJECT_SOURCE_DIR}/scripts ${PKG_CONFIG_EXECUTABLE})
set_tests_properties(test_unpacked PROPERTIES SKIP_RETURN_CODE 77)
add_test(NAME test_bench COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/test_bench.py)
set_tests_properties(test_bench PROPERTIES TIMEOUT 60)
add_test(NAME check_cudnn_wheel
         COMMAND ${CMAKE_COMMAND} -DFOLDER=${CMAKE_BINARY_DIR}/tests/cudnn-wheel
                 -P ${CMAKE_CURRENT_SOURCE_DIR}/check_cudnn_wheel.cmake)
add_test(NAME check_cuda_architectures
         COMMAND ${CMAKE_COMMAND} -P ${CMAKE_CURRENT_SOURCE_DIR}/check_cuda_architectures.cmake)

# The longest begin first, so that no core is left waiting for one in the end.
set_tests_properties(test_pytorch test_faults test_reliability PROPERTIES COST 100)
set_tests_properties(test_kills PROPERTIES COST 50)
