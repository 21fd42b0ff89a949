rodeo_test(test_settings SOURCES test_settings.c LINKS rodeo_settings)
rodeo_test(test_settings_yaml SOURCES test_settings_yaml.c LINKS rodeo_settings)
rodeo_test(test_events SOURCES test_events.c LINKS rodeo_logs)
rodeo_test(test_metrics SOURCES test_metrics.c LINKS rodeo_logs)
rodeo_test(test_checkpoint SOURCES test_checkpoint.c LINKS rodeo_train)
target_link_options(test_checkpoint PRIVATE -Wl,--wrap=snapshot_is_finite)
rodeo_test(test_first_weights SOURCES test_first_weights.c LINKS rodeo_train)
rodeo_test(test_run SOURCES test_run.c data_fixture.c LINKS rodeo_train)
target_link_options(test_run PRIVATE -Wl,--wrap=rename)
rodeo_test(test_plot SOURCES test_plot.c LINKS rodeo_logs)

# TensorBoard's own reader, where scripts/bootstrap has installed it.
add_executable(write_events write_events.c)
target_link_libraries(write_events PRIVATE rodeo_logs)
set_target_properties(write_events PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
add_test(NAME check_events
         COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/with_reference.sh ${PROJECT_SOURCE_DIR}/.venv/bin/python
                 tensorboard ${CMAKE_CURRENT_SOURCE_DIR}/check_events.py $<TARGET_FILE:write_events>)
set_tests_properties(check_events PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 120)
rodeo_test(test_training SOURCES test_training.c training_fixture.c LINKS rodeo_train)
foreach(precision fp32 tf32 fp16 bf16)
  add_test(NAME test_training_gpu_${precision} COMMAND test_training)
  set_tests_properties(test_training_gpu_${precision} PROPERTIES
    TIMEOUT 600 LABELS gpu SKIP_RETURN_CODE 77
    ENVIRONMENT "RODEO_TEST_DEVICE=cuda;RODEO_TEST_PRECISION=${precision};RODEO_TEST_STEPS=50;RODEO_TEST_SKIP=1")
endforeach()
