rodeo_test(test_net SOURCES test_net.c golden.c LINKS rodeo_train lib_jansson)
rodeo_test(test_params SOURCES test_params.c tensors.c LINKS rodeo_model)
rodeo_test(test_weights SOURCES test_weights.c tensors.c LINKS rodeo_model)
rodeo_test(test_pth SOURCES test_pth.c LINKS rodeo_model)
rodeo_test(test_safetensors SOURCES test_safetensors.c safetensors_fixture.c LINKS rodeo_model)
rodeo_test(test_safetensors_damage SOURCES test_safetensors_damage.c safetensors_fixture.c
           LINKS rodeo_model)

# The Python package safetensors, where scripts/bootstrap has installed it.
add_executable(exchange_safetensors exchange_safetensors.c)
target_link_libraries(exchange_safetensors PRIVATE rodeo_model)
set_target_properties(exchange_safetensors PROPERTIES RUNTIME_OUTPUT_DIRECTORY
                                                      ${CMAKE_BINARY_DIR}/tests)
add_test(NAME check_safetensors
         COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/with_reference.sh ${PROJECT_SOURCE_DIR}/.venv/bin/python
                 safetensors ${CMAKE_CURRENT_SOURCE_DIR}/check_safetensors.py
                 $<TARGET_FILE:exchange_safetensors>)
set_tests_properties(check_safetensors PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 120)
