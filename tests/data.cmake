rodeo_test(test_pairs SOURCES test_pairs.c data_fixture.c LINKS rodeo_data)
rodeo_test(test_picture SOURCES test_picture.c data_fixture.c LINKS rodeo_data)
rodeo_test(test_pack SOURCES test_pack.c data_fixture.c LINKS rodeo_data)
rodeo_test(test_pack_lock SOURCES test_pack_lock.c data_fixture.c LINKS rodeo_data)
target_link_options(test_pack_lock PRIVATE -Wl,--wrap=flock)
rodeo_test(test_pack_drives SOURCES test_pack_drives.c data_fixture.c LINKS rodeo_data)
target_link_options(test_pack_drives PRIVATE -Wl,--wrap=mmap64)
rodeo_test(test_png SOURCES test_png.c LINKS rodeo_data)
rodeo_test(test_tar SOURCES test_tar.c tar_fixture.c data_fixture.c LINKS rodeo_data)
rodeo_test(test_tar_wanted SOURCES test_tar_wanted.c LINKS rodeo_data)
rodeo_test(test_plan SOURCES test_plan.c data_fixture.c LINKS rodeo_data)
rodeo_test(test_loader SOURCES test_loader.c data_fixture.c LINKS rodeo_data)

# Pillow's and torchvision's pictures.
add_executable(augment_pictures augment_pictures.c)
target_link_libraries(augment_pictures PRIVATE rodeo_data)
set_target_properties(augment_pictures PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
add_test(NAME check_pictures
         COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/with_reference.sh ${PROJECT_SOURCE_DIR}/.venv/bin/python
                 torchvision ${CMAKE_CURRENT_SOURCE_DIR}/check_pictures.py
                 $<TARGET_FILE:augment_pictures>)
set_tests_properties(check_pictures PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 300)
