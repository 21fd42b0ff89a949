find_package(Python3 3.8 COMPONENTS Interpreter)
if(Python3_Interpreter_FOUND)
  add_test(NAME test_runs
           COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/test_runs.py ${CMAKE_BINARY_DIR})
  set_tests_properties(test_runs PROPERTIES TIMEOUT 900)
endif()
