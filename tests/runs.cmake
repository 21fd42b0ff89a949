find_package(Python3 3.8 COMPONENTS Interpreter REQUIRED)
add_test(NAME test_runs
         COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/test_runs.py ${CMAKE_BINARY_DIR})
set_tests_properties(test_runs PROPERTIES TIMEOUT 900)
# PyTorch, torchvision and ONNX, where scripts/bootstrap has installed them.
add_test(NAME test_pytorch
         COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/with_reference.sh ${PROJECT_SOURCE_DIR}/.venv/bin/python
                 "torch, torchvision, safetensors, onnx, onnxruntime"
                 ${CMAKE_CURRENT_SOURCE_DIR}/test_pytorch.py ${CMAKE_BINARY_DIR})
add_test(NAME check_initial
         COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/with_reference.sh ${PROJECT_SOURCE_DIR}/.venv/bin/python
                 "torchvision, safetensors" ${CMAKE_CURRENT_SOURCE_DIR}/check_initial.py
                 ${CMAKE_BINARY_DIR})
set_tests_properties(test_pytorch check_initial PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 900)
# Trains for minutes on all cores: only where the build is fast.
if(NOT RODEO_SANITIZE)
  add_test(NAME test_adaptation COMMAND ${Python3_EXECUTABLE}
           ${CMAKE_CURRENT_SOURCE_DIR}/test_adaptation.py ${CMAKE_BINARY_DIR})
  set_tests_properties(test_adaptation PROPERTIES TIMEOUT 1500 RUN_SERIAL ON)
endif()
